# A subchannel that is being opened when its device is closed is waited for, then closed.
case 117
side guest
version 5.3
offer relid=5 interface=1 instance=1
offer relid=6 interface=1 instance=1 subchannel=1
open relid=5
A> open relid=6
G> GPADL_HEADER relid=6
A> close relid=5
G> silence
G< GPADL_CREATED relid=6
G> OPEN_CHANNEL relid=6
G< OPEN_RESULT relid=6 status=UNSUCCESSFUL
G> GPADL_TEARDOWN relid=6
G< GPADL_TORNDOWN gpadl=0xE1E11
A< error op=open
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5
