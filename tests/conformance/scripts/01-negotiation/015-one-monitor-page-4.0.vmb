# One monitor page alone, at the version of the catalogue.
case 015
option guest-pages
G> INITIATE_CONTACT version=4.0 page1=0x10000
G< VERSION_RESPONSE supported=1 state=2
= disconnected
