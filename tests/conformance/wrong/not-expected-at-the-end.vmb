#= 4:1: expected nothing more at the end of the script, got
#= G< GPADL_CREATED relid=9 gpadl_id=9 status=0x8000ffff
version 5.3
G> GPADL_HEADER relid=9
