# A subchannel that is not open is removed at once, without asking anybody.
case 119
side guest
version 5.3
offer relid=5 interface=1 instance=1
offer relid=6 interface=1 instance=1 subchannel=1
open relid=5
G< RESCIND_OFFER relid=6
A< gone relid=6
G> RELID_RELEASED relid=6
= channels 1
= channel 5 open
