# A claim that was watched is watched again: the close is not complete before it is free.
case 204
option manual-claims
version 5.3
offer
open relid=1
G> CLOSE_CHANNEL relid=1
H< close relid=1
save
restore
H> close
= channel 1 closing
G> GPADL_TEARDOWN relid=1 gpadl=1
H< teardown relid=1 gpadl=1
H> done
G< silence
claim_free 1
G< GPADL_TORNDOWN gpadl=1
= channel 1 closed
