# The same before the guest asked: nothing is said until it does.
case 206
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
H> offer instance=1
save
restore
H> offer instance=2
G< silence
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1
G< OFFER_CHANNEL relid=2
G< ALL_OFFERS_DELIVERED
