# With chosen signal parameters or redirection the short form of an open is too short.
case 024
version 6.0 features=0x01
offer
gpadl
G> OPEN_CHANNEL relid=1 @size=148
= refused 1
G> INITIATE_CONTACT version=6.0 features=0x02
H< teardown gpadl=1
H> done
G< VERSION_RESPONSE features=0x02
G> REQUEST_OFFERS
G< OFFER_CHANNEL
G< ALL_OFFERS_DELIVERED
gpadl
G> OPEN_CHANNEL relid=1 @size=148
= refused 2
