# Feature bits in the contact mean nothing below 6.0.
case 008
G> INITIATE_CONTACT version=5.3 features=0xFF
G< VERSION_RESPONSE supported=1 @size=16
G> PAUSE
G> MODIFY_CONNECTION page1=0x1000 page2=0x2000
= refused 2
= connected 5.3
