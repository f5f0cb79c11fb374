# The client id is kept when its feature was asked for, and else it is zero.
case 009 011
G> INITIATE_CONTACT version=6.0 features=CLIENT_ID client_id=11223344-5566-7788-99aa-bbccddeeff00 @size=56
G< VERSION_RESPONSE supported=1 features=CLIENT_ID
= client_id 11223344-5566-7788-99aa-bbccddeeff00
G> INITIATE_CONTACT version=6.0 features=0 client_id=11223344-5566-7788-99aa-bbccddeeff00 @size=56
G< VERSION_RESPONSE supported=1 features=0
= client_id 0
