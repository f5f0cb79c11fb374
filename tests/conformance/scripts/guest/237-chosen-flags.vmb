# The client takes the lowest free event flag, and gives it back on close, on a failed open and on a rescind.
case 062 237
side guest
version 6.0 features=0x01
offer relid=5
offer relid=6
offer relid=7
A> open relid=7
G> GPADL_HEADER relid=7
G< GPADL_CREATED relid=7
G> OPEN_CHANNEL relid=7 flag=1 connection=0x2007 flags=0 @size=156
G< OPEN_RESULT relid=7
= channel 7 open flag=1
open relid=6
= channel 6 open flag=2
A> open relid=5
G> GPADL_HEADER relid=5
G< GPADL_CREATED relid=5
G> OPEN_CHANNEL relid=5 flag=3
G< OPEN_RESULT relid=5 status=UNSUCCESSFUL
G> GPADL_TEARDOWN relid=5
G< GPADL_TORNDOWN gpadl=0xE1E12
A< error op=open
A> close relid=6
G> CLOSE_CHANNEL relid=6
G> GPADL_TEARDOWN relid=6
G< GPADL_TORNDOWN gpadl=0xE1E11
open relid=5
= channel 5 open flag=2
G< RESCIND_OFFER relid=7
G> CLOSE_CHANNEL relid=7
A< gone relid=7
open relid=6
= channel 6 open flag=1
