# Page numbers behind the end of guest memory are refused before the device hears of them; the last page is one.
case 089
option pages=1024
version 5.3
offer
G> GPADL_HEADER relid=1 gpadl=1 pfns=1023,1024
G< GPADL_CREATED relid=1 gpadl=1 status=UNSUCCESSFUL
G> GPADL_HEADER relid=1 gpadl=1 pfns=0xFFFFFFFFFFFFFFFF
G< GPADL_CREATED relid=1 gpadl=1 status=UNSUCCESSFUL
H< silence
G> GPADL_HEADER relid=1 gpadl=1 pfns=1023
H< gpadl relid=1 gpadl=1 pfns=1023
H> done
G< GPADL_CREATED relid=1 gpadl=1 status=OK
= gpadls 1
