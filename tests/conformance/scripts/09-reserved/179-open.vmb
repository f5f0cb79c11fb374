# A reserved open: no interrupts, and the result goes to the VP and SINT that it names.
case 179
option vps=8
version 4.0
offer
gpadl
G> OPEN_RESERVED relid=1 vp=1 sint=2 gpadl=1 offset=2
H< open relid=1 vp=NONE gpadl=1 offset=2
G< silence
H> done(0)
G< OPEN_RESULT relid=1 open_id=0 status=OK @vp=1 @sint=2
= open 1
