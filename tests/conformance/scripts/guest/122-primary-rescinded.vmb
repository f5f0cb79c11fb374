# A subchannel is never attached to a device that the host has taken back.
case 122
side guest
version 5.3
offer relid=5 interface=1 instance=1
G< RESCIND_OFFER relid=5
A< gone relid=5
G< OFFER_CHANNEL relid=6 interface=1 instance=1 subchannel=1
A< offered relid=6 primary=0
A> release relid=5
G> RELID_RELEASED relid=5
G< OFFER_CHANNEL relid=5 interface=3 instance=3
A< offered relid=5
= channel 6 offered primary=0
