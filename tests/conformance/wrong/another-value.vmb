#= 5:1: expected G< GPADL_CREATED status=OK, got G< GPADL_CREATED relid=9
#= status is 0x8000ffff, not 0x0
version 5.3
G> GPADL_HEADER relid=9
G< GPADL_CREATED status=OK
