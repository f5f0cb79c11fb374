# The same offers get the same relids on the next connection, and their GPADL handles are free.
case 039 160 161
version 5.3
offer interface=9 instance=1
offer interface=4 instance=2
offer interface=6 instance=3
open relid=2
G> UNLOAD
H< close relid=2
H< teardown gpadl=2
= disconnecting
H> done
G< silence
H> done
G< UNLOAD_COMPLETE
= disconnected
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
G< silence
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1 interface=4
G< OFFER_CHANNEL relid=2 interface=6
G< OFFER_CHANNEL relid=3 interface=9
G< ALL_OFFERS_DELIVERED
gpadl relid=2 gpadl=2
