# The first offers end with the list; what comes later is a stream of its own.
case 046 047
side guest
option versions=5.3
A> connect
G> INITIATE_CONTACT
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1
A< offered relid=1
G< OFFER_CHANNEL relid=2
A< offered relid=2
G< ALL_OFFERS_DELIVERED
A< offers_delivered
G< OFFER_CHANNEL relid=3
A< offered relid=3
G< ALL_OFFERS_DELIVERED
= refused 1
= channels 3
