import KDDiffusion
import KDStudio
import SwiftUI

/// Width and height: nothing to choose, one of a few, or free.
struct SizeRows: View {
    /// What the model allows.
    let rules: SettingsRules

    @Environment(Studio.self) private var studio

    var body: some View {
        @Bindable var studio = studio
        if rules.sizes.count > 1 {
            Picker("Size", selection: $studio.size) {
                ForEach(rules.sizes, id: \.self) { Text(text($0)).tag($0) }
            }
        } else if let only = rules.sizes.first {
            LabeledContent("Size", value: text(only))
        } else {
            Stepper(value: $studio.settings.width, in: range, step: rules.multiple) {
                LabeledContent("Width", value: "\(studio.settings.width)")
            }
            Stepper(value: $studio.settings.height, in: range, step: rules.multiple) {
                LabeledContent("Height", value: "\(studio.settings.height)")
            }
        }
    }

    private var range: ClosedRange<Int> { rules.multiple...max(2048, rules.multiple) }

    private func text(_ size: PixelSize) -> String { "\(size.width) × \(size.height)" }
}
