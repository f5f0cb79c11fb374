# An open one is not called any more, and is removed when the close of its device reaches it.
case 119
side guest
version 5.3
offer relid=5 interface=1 instance=1
offer relid=6 interface=1 instance=1 subchannel=1
open relid=5
open relid=6
G< RESCIND_OFFER relid=6
A< detach relid=6
G> silence
G< RESCIND_OFFER relid=6
= refused 1
A> retarget relid=6 vp=1
A< error op=retarget kind=ChannelGone
A> close relid=5
G> CLOSE_CHANNEL relid=6
A< free relid=6
A< gone relid=6
G> RELID_RELEASED relid=6
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5
= channels 1
