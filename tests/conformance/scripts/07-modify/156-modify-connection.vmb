# Pages are changed together, one change at a time.
case 156
option guest-pages manual-pages
version 6.0 features=0x04
G> MODIFY_CONNECTION page1=0x10000 page2=0x20000
B< ModifyPages parent_to_child=0x10000 child_to_parent=0x20000
G< silence
G> MODIFY_CONNECTION page1=0x30000 page2=0x40000
G< MODIFY_CONNECTION_RESPONSE state=2
pages ok
G< MODIFY_CONNECTION_RESPONSE state=0 @size=9
G> MODIFY_CONNECTION page1=0x10000 page2=0
G< MODIFY_CONNECTION_RESPONSE state=2
G> MODIFY_CONNECTION page1=0 page2=0
B< ModifyPages parent_to_child=0 child_to_parent=0
pages ok
G< MODIFY_CONNECTION_RESPONSE state=0
