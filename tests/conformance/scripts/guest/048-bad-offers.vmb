# An offer that cannot be is dropped; what is there is not harmed.
case 048 049 050
side guest
version 5.3
offer relid=7 interface=1 instance=1
open relid=7
G< OFFER_CHANNEL relid=8 interface=1 instance=1 subchannel=0
= refused 1
G< OFFER_CHANNEL relid=7 interface=5 instance=5
= refused 2
G< OFFER_CHANNEL relid=0 instance=6
G< OFFER_CHANNEL relid=2048 instance=7
G< OFFER_CHANNEL relid=0xFFFFFFFF instance=8
= refused 5
= channels 1
= channel 7 open
A> retarget relid=7 vp=1
G> MODIFY_CHANNEL relid=7 vp=1
