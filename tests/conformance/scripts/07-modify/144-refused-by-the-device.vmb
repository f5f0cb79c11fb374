# A device that cannot follow: the channel keeps its old VP.
case 144 148
version 5.3
offer
open relid=1 vp=1
G> MODIFY_CHANNEL relid=1 vp=2
H< retarget vp=2
H> done(-1)
G< MODIFY_CHANNEL_RESPONSE relid=1 status=UNSUCCESSFUL
= channel 1 open vp=1
