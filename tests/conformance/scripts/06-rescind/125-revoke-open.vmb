# Revoked while open: one rescind, the route is gone before it.
case 125
version 5.3
offer
open relid=1
revoke relid=1
B< CloseSlot flag=1
G< RESCIND_OFFER relid=1
G> RELID_RELEASED relid=1
B< EmptySlot flag=1
= channels 0
