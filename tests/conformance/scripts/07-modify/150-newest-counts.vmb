# Below 5.3 the newest of those that wait is carried out, the others never.
case 150
version 5.2
option vps=8
offer
open relid=1
G> MODIFY_CHANNEL relid=1 vp=4
H< retarget vp=4
G> MODIFY_CHANNEL relid=1 vp=5
G> MODIFY_CHANNEL relid=1 vp=6
H< silence
H> done(0)
H< retarget vp=6
H> done(0)
H< silence
= channel 1 open vp=6
