# 3.0 knows no reserved channels.
case 188
version 3.0
offer
gpadl
G> OPEN_RESERVED relid=1 vp=0 sint=2
= refused 1
H< silence
