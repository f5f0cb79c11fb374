# Each subchannel is told once, with its device; each has a GPADL, a flag and a VP of its own.
case 116 121
side guest
version 5.3
offer relid=5 interface=1 instance=1
open relid=5
G< OFFER_CHANNEL relid=6 interface=1 instance=1 subchannel=1
A< offered relid=6 subchannel=1 primary=5
G< OFFER_CHANNEL relid=7 interface=1 instance=1 subchannel=2
A< offered relid=7 subchannel=2 primary=5
G> silence
A> open relid=6 vp=1
G> GPADL_HEADER relid=6 gpadl=0xE1E11
G< GPADL_CREATED relid=6
G> OPEN_CHANNEL relid=6 gpadl=0xE1E11 vp=1
G< OPEN_RESULT relid=6
A< done op=open
A> open relid=7 vp=2
G> GPADL_HEADER relid=7 gpadl=0xE1E12
G< GPADL_CREATED relid=7
G> OPEN_CHANNEL relid=7 gpadl=0xE1E12 vp=2
G< OPEN_RESULT relid=7
= open 3
= channel 6 open vp=1 flag=6
= channel 7 open vp=2 flag=7
