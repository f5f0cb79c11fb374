# The four channels of a device get four VPs; a device that is slow keeps all its channels on VP 0.
case 120
side guest
option vps=4
version 5.3
G< OFFER_CHANNEL relid=1 interface=1 instance=1
A< offered relid=1 vp=0
G< OFFER_CHANNEL relid=2 interface=1 instance=2
A< offered relid=2 vp=1
G< OFFER_CHANNEL relid=3 interface=1 instance=2 subchannel=1
A< offered relid=3 vp=2
G< OFFER_CHANNEL relid=4 interface=1 instance=2 subchannel=2
A< offered relid=4 vp=3
G< OFFER_CHANNEL relid=5 interface=1 instance=2 subchannel=3
A< offered relid=5 vp=0
G< OFFER_CHANNEL relid=6 interface=1 instance=2 subchannel=4
A< offered relid=6 vp=1
G< OFFER_CHANNEL relid=7 interface=57164f39-9115-4e78-ab55-382f3bd5422d instance=7
A< offered relid=7 vp=0
G< OFFER_CHANNEL relid=8 interface=57164f39-9115-4e78-ab55-382f3bd5422d instance=7 subchannel=1
A< offered relid=8 vp=0
G< OFFER_CHANNEL relid=9 interface=1 instance=9
A< offered relid=9 vp=2
A> open relid=9
G> GPADL_HEADER relid=9
G< GPADL_CREATED relid=9
G> OPEN_CHANNEL relid=9 vp=2
