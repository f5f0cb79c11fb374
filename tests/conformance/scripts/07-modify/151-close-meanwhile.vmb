# A close ends a modification that is under way; its late answer means nothing.
case 151
version 5.3
offer
open relid=1
G> MODIFY_CHANNEL relid=1 vp=1
H< retarget vp=1
G> CLOSE_CHANNEL relid=1
H< close relid=1
H> retargeted relid=1 vp=1 status=0
= refused 1
G< silence
H> closed relid=1
= channel 1 closed
