# Confidential flags pass to a trusted guest that asked for them.
case 042 031
G> INITIATE_CONTACT version=6.0 features=0x10 @trusted
G< VERSION_RESPONSE features=0x10
G> REQUEST_OFFERS @trusted
G< ALL_OFFERS_DELIVERED
H> offer flags=0xFFFF
G< OFFER_CHANNEL relid=1 flags=0xFFF7
