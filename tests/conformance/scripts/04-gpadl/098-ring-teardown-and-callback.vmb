# Nor while a callback of the guest may still run: the claim of the last open must be seen free.
case 098 136
option manual-claims
version 5.3
offer
open relid=1
G> GPADL_TEARDOWN relid=1 gpadl=1
H< teardown relid=1 gpadl=1
H> done
G> CLOSE_CHANNEL relid=1
B< CloseSlot flag=1 relid=1
H< close relid=1
H> done
G< silence
claim_free 1
G< GPADL_TORNDOWN gpadl=1
