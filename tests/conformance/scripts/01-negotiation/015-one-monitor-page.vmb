# One monitor page alone is a failure of the connection, not of the version.
case 015
G> INITIATE_CONTACT version=5.3 page1=0x1000
G< VERSION_RESPONSE supported=1 state=UNKNOWN_FAILURE
= disconnected
G> INITIATE_CONTACT version=5.3 page2=0x1000
G< VERSION_RESPONSE supported=1 state=2
= disconnected
