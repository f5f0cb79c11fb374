# The backend may fail to map what looked right.
case 014 015
option guest-pages manual-pages
G> INITIATE_CONTACT version=1.1 interrupt_page=0x10000
= connecting
pages failed
G< VERSION_RESPONSE supported=0
= disconnected
G> INITIATE_CONTACT version=4.0 page1=0x10000 page2=0x20000
pages failed
G< VERSION_RESPONSE supported=1 state=UNKNOWN_FAILURE
= disconnected
