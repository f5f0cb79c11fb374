# These versions have no word for a failure: it is "unsupported".
case 014
option guest-pages
G> INITIATE_CONTACT version=1.1 interrupt_page=0x10008
G< VERSION_RESPONSE supported=0 state=0 selected=0
= disconnected
