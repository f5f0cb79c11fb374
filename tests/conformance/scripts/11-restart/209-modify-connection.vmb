# The same for pages that are changed.
case 209
option guest-pages manual-pages
version 6.0 features=0x04
G> MODIFY_CONNECTION page1=0x10000 page2=0x20000
B< ModifyPages parent_to_child=0x10000 child_to_parent=0x20000
save
restore
B< ModifyPages parent_to_child=0x10000 child_to_parent=0x20000
G< silence
pages ok
G< MODIFY_CONNECTION_RESPONSE state=0
save
restore
silence
