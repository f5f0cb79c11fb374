# A GPADL on a relid that nobody has is answered with a failure.
case 086
version 5.3
offer
G> GPADL_HEADER relid=100 gpadl=1
G< GPADL_CREATED relid=100 gpadl=1 status=UNSUCCESSFUL
H< silence
