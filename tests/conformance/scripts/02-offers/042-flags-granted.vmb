# With the feature the flags pass.
case 042
option gpa-pinning
G> INITIATE_CONTACT version=6.0 features=0x80
G< VERSION_RESPONSE features=0x80
G> REQUEST_OFFERS
G< ALL_OFFERS_DELIVERED
H> offer flags=0xFFFF
G< OFFER_CHANNEL relid=1 flags=0xFFF9
