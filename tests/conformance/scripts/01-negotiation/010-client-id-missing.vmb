# Asked for the client id, the short form is no contact at all.
case 010
G> INITIATE_CONTACT version=6.0 features=0x08 @size=40
= refused 1
= disconnected
G> INITIATE_CONTACT version=6.0 features=0x08 client=7 @size=55
= refused 2
G> INITIATE_CONTACT version=6.0 features=0x08 client=7
G< VERSION_RESPONSE supported=1
