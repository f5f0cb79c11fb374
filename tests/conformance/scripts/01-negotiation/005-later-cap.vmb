# A cap that begins when the first connection has ended.
case 005
option max-version=5.3 max-version-later
G> INITIATE_CONTACT version=6.0
G< VERSION_RESPONSE supported=1
G> UNLOAD
G< UNLOAD_COMPLETE
G> INITIATE_CONTACT version=6.0
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
