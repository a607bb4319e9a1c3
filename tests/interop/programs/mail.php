<?php
// One message by mail(): recipient, sender and the file of its body. PHP itself adds To and Subject.
[, $recipient, $sender, $body] = $argv;
$fields = ['From' => $sender, 'Bcc' => 'hidden@two.test', 'Content-Type' => 'text/plain; charset=utf-8'];
exit(mail($recipient, 'hello', file_get_contents($body), $fields, '-f' . $sender) ? 0 : 1);
