# A refused GPADL leaves nothing behind.
case 106
side guest
version 5.3
offer relid=5
A> open relid=5
G> GPADL_HEADER relid=5
G< GPADL_CREATED relid=5 status=UNSUCCESSFUL
A< free relid=5
A< error op=open text="GPADL refused"
= channel 5 offered
A> open relid=5
G> GPADL_HEADER relid=5
