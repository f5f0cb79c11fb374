# Saved with two offers and no guest: nothing is said, and a later connection works.
case 200
offer instance=1
offer instance=2
save
reset
restore
silence
= disconnected
= channels 2
H> closed id=1
= refused 1
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1 instance=1
G< OFFER_CHANNEL relid=2 instance=2
G< ALL_OFFERS_DELIVERED
open relid=2
= open 1
