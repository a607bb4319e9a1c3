<?php
// One message by PHPMailer, as JSON on standard input tells. It makes its own header: what it says it
// sent is written to a file.
require $argv[1] . '/PHPMailer.php';
require $argv[1] . '/SMTP.php';
require $argv[1] . '/Exception.php';
require $argv[1] . '/OAuthTokenProvider.php';

class Token implements PHPMailer\PHPMailer\OAuthTokenProvider
{
    public function __construct(private string $user, private string $token)
    {
    }

    public function getOauth64()
    {
        return base64_encode("user={$this->user}\001auth=Bearer {$this->token}\001\001");
    }
}

$asked = json_decode(stream_get_contents(STDIN), true);
$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP();
$mail->Host = $asked['host'];
$mail->Port = $asked['port'];
$mail->Helo = 'client.shop.test';
$mail->SMTPAutoTLS = false;
$mail->SMTPSecure = ['none' => '', 'starttls' => 'tls', 'implicit' => 'ssl'][$asked['tls']];
$mail->SMTPOptions = ['ssl' => ['cafile' => $asked['ca']]];
if ($asked['mechanism']) {
    $mail->SMTPAuth = true;
    $mail->AuthType = $asked['mechanism'];
    $mail->Username = $asked['user'];
    $mail->Password = $asked['password'];
    if ($asked['mechanism'] === 'XOAUTH2') {
        $mail->setOAuth(new Token($asked['user'], $asked['password']));
    }
}
$mail->CharSet = 'utf-8';
$mail->Encoding = '8bit';
$mail->Sender = $asked['sender'];
$mail->setFrom($asked['sender'], 'Ann');
foreach ($asked['recipients'] as $recipient) {
    $mail->addBCC($recipient);
}
$mail->Subject = 'hello';
$mail->Body = file_get_contents($asked['body']);
$mail->dsn = $asked['notify'];
try {
    $mail->send();
} catch (Exception $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    exit(1);
}
file_put_contents($asked['sent'], $mail->getSentMIMEMessage());
echo $mail->getSMTPInstance()->getLastReply();
