# On the next connection only what the guest does not hold is listed.
case 183
version 5.3
offer instance=1
offer instance=2
offer instance=3
gpadl relid=1
gpadl relid=3
G> OPEN_RESERVED relid=1 vp=0 sint=3
H< open relid=1
H> done
G< OPEN_RESULT relid=1
G> OPEN_RESERVED relid=3 vp=0 sint=3 gpadl=3
H< open relid=3
H> done
G< OPEN_RESULT relid=3
G> UNLOAD
G< UNLOAD_COMPLETE
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=2 instance=2
G< ALL_OFFERS_DELIVERED
