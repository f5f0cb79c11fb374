# A reset closes reserved channels too, connected or not.
case 186 166
version 5.3
offer
gpadl
G> OPEN_RESERVED relid=1 vp=0 sint=3
H< open relid=1
H> done
G< OPEN_RESULT relid=1
G> UNLOAD
G< UNLOAD_COMPLETE
reset
H< close relid=1
H< teardown gpadl=1
H> done
H> done
B< ResetDone callers=1
= relids 0
