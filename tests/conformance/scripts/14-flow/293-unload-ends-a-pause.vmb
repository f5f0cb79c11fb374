# An unload is heard while paused, and so is a contact.
case 293
version 6.0 features=0x20
offer
G> PAUSE
G< PAUSE_RESPONSE
G> UNLOAD
G< UNLOAD_COMPLETE
G> INITIATE_CONTACT version=6.0 features=0x20
G< VERSION_RESPONSE features=0x20
G> PAUSE
G< PAUSE_RESPONSE
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
= connected 5.3
