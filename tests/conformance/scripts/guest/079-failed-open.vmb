# A refused open gives the GPADL back first and can be tried again.
case 079
side guest
version 5.3
offer relid=5
A> open relid=5
G> GPADL_HEADER relid=5
G< GPADL_CREATED relid=5
G> OPEN_CHANNEL relid=5
G< OPEN_RESULT relid=5 status=UNSUCCESSFUL
G> GPADL_TEARDOWN relid=5
G< GPADL_TORNDOWN gpadl=0xE1E10
A< free relid=5
A< error op=open text=0x8000ffff
A> open relid=5
G> GPADL_HEADER relid=5 gpadl=0xE1E11
