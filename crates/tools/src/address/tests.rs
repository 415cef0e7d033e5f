use super::{Reach, refusal};

#[test]
fn addresses_are_public_inside_or_never() {
    // Is it refused to a tool that may only go outside, and to one that may go inside?
    let check = |addresses: &str, outside: bool, inside: bool| {
        for text in addresses.split_whitespace() {
            let address = text.parse().expect("an address");
            assert_eq!(refusal(address, Reach::Outside).is_some(), outside, "{text} outside");
            assert_eq!(refusal(address, Reach::Inside).is_some(), inside, "{text} inside");
        }
    };
    let public = "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 172.15.255.255
        172.32.0.0 192.167.255.255 192.169.0.0 223.255.255.255 2606:4700:4700::1111 2a00:1450::1
        2001:4860:4860::8888 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:0808:0808::1";
    check(public, false, false);

    let inside =
        "127.0.0.1 127.255.255.255 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1
        100.127.255.255 198.18.0.1 ::1 fc00::1 fdff::1 ::ffff:127.0.0.1 ::ffff:10.1.2.3
        64:ff9b::192.168.0.1 2002:7f00:0001::1 2002:c0a8:0101::";
    check(inside, true, false);

    let never =
        "0.0.0.0 0.1.2.3 169.254.169.254 169.254.170.2 169.254.0.1 168.63.129.16 100.100.100.200
        192.0.0.192 192.0.2.1 198.51.100.7 203.0.113.9 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255
        :: ::127.0.0.1 ::8.8.8.8 ::ffff:169.254.169.254 ::ffff:0.0.0.0 64:ff9b::169.254.169.254
        64:ff9b:1::1 2002:a9fe:a9fe::1 fd00:ec2::254 fd20:ce::254 fe80::1 fec0::1 ff02::1
        2001::1 2001:db8::1 3fff::1 100::1 4000::1 5f00::1 e000::1";
    check(never, true, true);
}
