# From 4.1 to 5.2 a channel moves without a word.
case 143
version 4.1
option vps=8
offer
open relid=1
G> MODIFY_CHANNEL relid=1 vp=4
H< retarget vp=4
H> done(0)
G< silence
= channel 1 open vp=4
G> MODIFY_CHANNEL relid=1 vp=NONE
= refused 1
