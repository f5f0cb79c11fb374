# Confidential channels need trust, pinned memory needs a daemon that can.
case 031
G> INITIATE_CONTACT version=6.0 features=0x90
G< VERSION_RESPONSE supported=1 features=0
G> INITIATE_CONTACT version=6.0 features=0x90 @trusted
G< VERSION_RESPONSE supported=1 features=0x10
