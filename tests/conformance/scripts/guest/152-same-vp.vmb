# At 5.3 too the same VP again sends nothing; a refused move leaves the VP as it was.
case 152 153
side guest
version 5.3
offer relid=5
open relid=5 vp=1
A> retarget relid=5 vp=1
A< done op=retarget
G> silence
A> retarget relid=5 vp=2
G> MODIFY_CHANNEL relid=5 vp=2
A> retarget relid=5 vp=1
G> silence
G< MODIFY_CHANNEL_RESPONSE relid=5 status=UNSUCCESSFUL
A< error op=retarget
G> MODIFY_CHANNEL relid=5 vp=1
= channel 5 open vp=1
G< MODIFY_CHANNEL_RESPONSE relid=5
A< done op=retarget
