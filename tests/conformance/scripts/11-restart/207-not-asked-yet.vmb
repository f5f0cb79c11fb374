# What the device never heard is asked when the guest sends it again.
case 207
version 5.3
offer
gpadl relid=1 gpadl=4
save
G> GPADL_HEADER relid=1 gpadl=2 pages=4
H< gpadl relid=1 gpadl=2
G> GPADL_TEARDOWN relid=1 gpadl=4
H< teardown relid=1 gpadl=4
restore
= gpadls 1
G> GPADL_HEADER relid=1 gpadl=2 pages=4
H< gpadl relid=1 gpadl=2
G> GPADL_TEARDOWN relid=1 gpadl=4
H< teardown relid=1 gpadl=4
H> teardown gpadl=4
G< GPADL_TORNDOWN gpadl=4
