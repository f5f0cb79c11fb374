# From 4.1 to 5.2 nobody answers: the move is done when it is sent, and the same VP again sends nothing.
case 143 152
side guest
version 5.2
offer relid=5
open relid=5
A> retarget relid=5 vp=2
G> MODIFY_CHANNEL relid=5 vp=2
A< done op=retarget
= channel 5 open vp=2
A> retarget relid=5 vp=2
A< done op=retarget
G> silence
A> retarget relid=5 vp=3
G> MODIFY_CHANNEL relid=5 vp=3
G< hex 18000000 00000000 05000000 00000000
= refused 1
