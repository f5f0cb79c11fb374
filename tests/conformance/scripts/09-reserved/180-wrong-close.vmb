# Each kind of open has its own kind of close.
case 180
version 5.3
offer instance=1
offer instance=2
gpadl
open relid=2
G> OPEN_RESERVED relid=1 vp=1 sint=3
H< open relid=1
H> done
G< OPEN_RESULT relid=1 @vp=1 @sint=3
G> CLOSE_CHANNEL relid=1
= refused 1
G> CLOSE_RESERVED relid=2 vp=1 sint=3
= refused 2
H< silence
= open 2
