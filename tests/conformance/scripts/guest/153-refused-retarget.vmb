# A refused retarget is an error; the channel goes on.
case 153
side guest
version 5.3
offer relid=5
open relid=5 vp=1
A> retarget relid=5 vp=2
G> MODIFY_CHANNEL relid=5 vp=2
G< MODIFY_CHANNEL_RESPONSE relid=5 status=UNSUCCESSFUL
A< error op=retarget text=0x8000ffff
A> retarget relid=5 vp=3
G> MODIFY_CHANNEL relid=5 vp=3
G< MODIFY_CHANNEL_RESPONSE relid=5 status=OK
A< done op=retarget
= channel 5 open
