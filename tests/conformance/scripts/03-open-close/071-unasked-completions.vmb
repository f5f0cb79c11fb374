# Answers that nobody asked for are counted and change nothing.
case 071
version 5.3
offer
gpadl gpadl=1
H> opened relid=1 generation=1 status=0
H> closed relid=1 generation=1
H> gpadl_accepted relid=1 gpadl=1 status=FAILED
H> gpadl_torn_down relid=1 gpadl=1
H> retargeted relid=1 generation=1 vp=0
= refused 5
= channel 1 closed
G> OPEN_CHANNEL relid=1 gpadl=1
H< open relid=1
H> opened relid=1 generation=99
= refused 6
H> done(0)
G< OPEN_RESULT status=OK
H> closed relid=1
= refused 7
= open 1
