# What is not there after 10 s is gone; what comes later is new.
case 174
side guest
version 5.3
offer relid=5 interface=1 instance=1
offer relid=6 interface=2 instance=2
A> suspend
G> UNLOAD
G< UNLOAD_COMPLETE
A< done op=suspend
A> resume
G> INITIATE_CONTACT
G< VERSION_RESPONSE
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1 interface=2 instance=2
A< resumed relid=1 was=6
G< ALL_OFFERS_DELIVERED
T+ 9s
G> silence
T+ 1s
A< missing relid=5
A< done op=resume
G< OFFER_CHANNEL relid=2 interface=1 instance=1
A< offered relid=2
