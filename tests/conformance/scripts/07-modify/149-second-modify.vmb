# While one is under way another is refused, and there is one answer.
case 149
version 5.3
offer
open relid=1 vp=0
G> MODIFY_CHANNEL relid=1 vp=1
H< retarget vp=1
G> MODIFY_CHANNEL relid=1 vp=2
= refused 1
H< silence
H> done(0)
G< MODIFY_CHANNEL_RESPONSE relid=1 status=OK
= channel 1 open vp=1
