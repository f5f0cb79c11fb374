# Every message, cut one byte short of its fixed part, is refused; nothing of it takes effect.
case 018 313
version 5.3
offer
open relid=1
G> OPEN_CHANNEL relid=1 @size=147
G> CLOSE_CHANNEL relid=1 @size=11
G> GPADL_HEADER relid=1 gpadl=9 @size=19
G> GPADL_BODY gpadl=9 @size=15
G> GPADL_TEARDOWN relid=1 gpadl=1 @size=15
G> RELID_RELEASED relid=1 @size=11
G> TL_CONNECT_REQUEST endpoint=1 service=2 @size=39
G> MODIFY_CHANNEL relid=1 vp=2 @size=15
G> OPEN_RESERVED relid=1 @size=27
G> CLOSE_RESERVED relid=1 @size=19
= refused 10
= open 1
G> CLOSE_CHANNEL relid=1
H< close relid=1
H> done
